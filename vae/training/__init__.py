"""Training: the loop, its step and state, what is watched and kept, and several trainings as one."""
