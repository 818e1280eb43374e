"""Behind the command `scirs2`: its verbs, the catalog of optimizers, the examination of an installation."""
