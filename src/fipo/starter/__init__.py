"""What `fipo init` writes: a recipe, a reward and data that run as they are, to be changed one by one."""
