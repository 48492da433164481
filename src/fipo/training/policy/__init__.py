"""The policy: its model, adapters, optimizer, frozen reference and cost."""
