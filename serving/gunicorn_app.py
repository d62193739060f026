"""Run gunicorn as `tracklog serve` does: in any folder, whose modules it does not import."""

import os
import sys

from gunicorn.app.wsgiapp import WSGIApplication


class Server(WSGIApplication):  # type: ignore[misc]
    """gunicorn, without its import of modules from the working directory, which may have an app.py too."""

    def chdir(self) -> None:
        os.chdir(self.cfg.chdir)


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    Server("%(prog)s [OPTIONS]", prog="tracklog serve").run()
