"""What is right about a response: graders, by name, and the processes that they run in."""
