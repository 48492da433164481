"""Problems, datasets and graders."""
