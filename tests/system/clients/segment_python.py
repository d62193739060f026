"""Drive PyPI segment-analytics-python: segment_python.py URL WRITE_KEY every|CALL..."""

from calls import arguments, make, say_answer, say_failure
from segment.analytics import Client, request

url, write_key, names = arguments()
request._session.hooks["response"].append(say_answer)
make(Client(write_key, host=url, on_error=say_failure), names)
