"""Run gunicorn for `tracklog serve`, in any folder, without importing that folder's modules."""

import os
import sys

from gunicorn.app.wsgiapp import WSGIApplication


class Server(WSGIApplication):  # type: ignore[misc]
    """gunicorn that imports no modules from the working directory, which may have another app.py."""

    def chdir(self) -> None:
        os.chdir(self.cfg.chdir)


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    Server("%(prog)s [OPTIONS]", prog="tracklog serve").run()
