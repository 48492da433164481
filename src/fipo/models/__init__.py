"""The embedded base model, the script that makes it, and loading of any other."""
