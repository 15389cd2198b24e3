"""The parts of `actionzoo.data.figures`: a jointed body, the actions it performs, the scene, and its drawing."""
