"""Problems that are made, not read: ours, and those of installed packages."""
