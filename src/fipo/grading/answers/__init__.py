"""The graders that come with fipo, one rule of answers in a file."""
