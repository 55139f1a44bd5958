from tests.storage.backends import backend, postgres, where

__all__ = ["backend", "postgres", "where"]
