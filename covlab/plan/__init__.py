"""Planning a run on hardware that is not here, with the compilers of that hardware."""
