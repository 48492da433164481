"""A trained model outside its run: a folder that loads by itself, with a card, and the hub."""
