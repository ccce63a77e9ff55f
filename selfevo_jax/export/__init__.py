"""A trained model taken out: as a folder or file that others serve, with what is known of it, and checked."""

from selfevo_jax.export.form import Dtype, Form
from selfevo_jax.export.writing import Exported, export

__all__ = ["Dtype", "Exported", "Form", "export"]
