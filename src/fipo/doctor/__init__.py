"""What is wrong with a recipe before it runs, and with a run during it and afterwards."""
