"""The task `stories`: counting stories, made by a seed."""
