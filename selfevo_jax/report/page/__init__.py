"""The page of a run: one HTML file with its figures, its charts and its chains, which needs nothing beside itself."""

from selfevo_jax.report.page.document import document
from selfevo_jax.report.page.embedded import Limits
from selfevo_jax.report.page.payload import payload
from selfevo_jax.report.page.writing import page_of, write_page

__all__ = ["Limits", "document", "page_of", "payload", "write_page"]
