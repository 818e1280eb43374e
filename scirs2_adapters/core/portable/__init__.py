"""A state that moves between frameworks: `file` lays it down, `state` says what is in it, `fit` puts it into the form
of the optimizer that takes it, `layouts` turns kernels, `host` is for numpy's optimizer.
"""
