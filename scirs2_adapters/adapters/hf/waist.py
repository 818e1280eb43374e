"""No binding of its own: the Trainer trains torch modules, so formulas run in the waist of the torch room."""
