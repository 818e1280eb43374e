"""What an optimizer does, step by step, in numbers: the record of a step, and who takes it."""
