"""The pipeline: the ordered plan of stages, their stored artifacts, and the runner for one machine."""
