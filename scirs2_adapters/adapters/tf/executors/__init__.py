"""How a step is taken: `traced` runs the formula in `keras.ops`, `gradients` reads the forms that gradients have."""
