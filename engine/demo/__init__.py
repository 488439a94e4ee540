"""`engine demo`: the getting-started guide's configuration on a made-up machine with labelled incidents."""

from engine.demo.command import run

__all__ = ["run"]
