"""Preference optimisation of a language model: groups of responses in, a fine-tuned model folder out.

`groups` is the data on disk, `schedule` decides which worker sees which group when, `pack` lays a prompt and
its responses out as one sequence, `logprobs` scores them, `loop` ties them to a loss, and a backend
(`plain`: one process, `deepspeed`: ZeRO over several) owns the weights. Nothing here knows about Ray.
"""
