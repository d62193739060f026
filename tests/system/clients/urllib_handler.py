"""Post a file with urllib, which sends the key only after a challenge: urllib_handler.py URL FILE SOURCE_ID"""

import sys
from pathlib import Path
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithDefaultRealm, build_opener

url, file, source_id = sys.argv[1:]
passwords = HTTPPasswordMgrWithDefaultRealm()
passwords.add_password(None, url, source_id, "")
print(build_opener(HTTPBasicAuthHandler(passwords)).open(url, Path(file).read_bytes(), timeout=60).status)
