"""Drive PyPI analytics-python 0.4.4, in Python 2.7: analytics_python.py URL SECRET

Makes one call of each kind and prints what became of them, as JSON.
"""

import json
import sys

from analytics import options
from analytics.client import Client

options.host, secret = sys.argv[1:]
client = Client(secret, flush_at=100, **{"async": False})
client.flush()  # a client that has never flushed sends its first call alone
client.identify("1234", {"name": "Arthur Dent", "hasTowel": True})
client.track("1234", "Added File", {"fileType": "PDF", "sizes": [1, 2.5]}, context={"ip": "192.0.2.7"})
client.alias("1234", "5678")
client.flush()
print(json.dumps({"successful": client.stats.successful, "failed": client.stats.failed}))
