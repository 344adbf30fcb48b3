// The source that the compiled headers belong to.
