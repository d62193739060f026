"""Drive PyPI astronomer-analytics: astronomer.py URL WRITE_KEY every|CALL..."""

from analytics import Client, request
from calls import arguments, make, say_answer, say_failure
from requests.adapters import HTTPAdapter


class Elsewhere(HTTPAdapter):
    """Sends the requests to `url` instead of the host that is fixed in the library."""

    def __init__(self, url):
        super().__init__()
        self.url = url

    def send(self, prepared, **options):
        prepared.url = self.url + prepared.path_url
        return super().send(prepared, **options)


url, write_key, names = arguments()
request._session.mount("https://api.astronomer.io/", Elsewhere(url))
request._session.hooks["response"].append(say_answer)
make(Client(write_key, on_error=say_failure), names)
