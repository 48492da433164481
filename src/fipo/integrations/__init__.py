"""Other trainers' hosts for `fipo.objective`: each adapter translates names, and does no mathematics of its own."""
