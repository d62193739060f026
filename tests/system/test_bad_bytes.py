"""Bad HTTP is answered in JSON and in time, and no request is hidden in another."""

import pytest
from bad_bodies import BROKEN_OFF, CHUNKED_BODIES, HIDDEN_REQUESTS
from bad_heads import CODINGS, HEADERS, LENGTHS, REQUEST_LINES
from needs import need
from nginx import Nginx
from raw_requests import post
from wire import converse

COMPLETE = [*REQUEST_LINES, *HEADERS, *LENGTHS, *CODINGS, *CHUNKED_BODIES, *HIDDEN_REQUESTS]
END = b"GET /v1/end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"  # its answer is 404


@pytest.fixture(scope="module")
def survivor(shared):
    """Yield a service, and check that its workers survived all requests."""
    before = shared.workers()
    yield shared
    assert shared.workers() == before
    assert "Traceback" not in shared.said()


@pytest.fixture(scope="module")
def front(survivor, tmp_path_factory):
    need("nginx")
    need("openssl")
    nginx = Nginx(tmp_path_factory.mktemp("front"), f"127.0.0.1:{survivor.port}")
    yield nginx
    nginx.stop()


def count(service, condition):
    ((number,),) = service.query(f"SELECT count(*) FROM events WHERE {condition}")
    return number


@pytest.fixture(params=["gunicorn", "nginx"])
def check(request, survivor):
    """Return a function that sends a case's bytes and checks the answers and the log."""
    port = survivor.port if request.param == "gunicorn" else request.getfixturevalue("front").port

    def check_case(case, then_shut=False):
        before = count(survivor, "true")
        method = case.sent.partition(b" ")[0].decode("latin-1")
        sent = case.sent if then_shut else case.sent + END
        codes = [answer.code for answer in converse(port, sent, then_shut=then_shut, method=method)]
        assert count(survivor, "true") - before == codes.count("ok")
        assert count(survivor, "name = 'Smuggled'") == 0
        if codes[-1:] == ["not_found"] and codes != ["not_found"]:
            codes.pop()  # the answer to END, if the connection was still usable
        assert " ".join(codes) in case.expected(request.param).split(" | ")

    return check_case


@pytest.mark.parametrize("case", COMPLETE, ids=lambda case: case.name)
def test_bad_requests_are_answered_as_listed_and_hide_no_other(check, case):
    check(case)


@pytest.mark.parametrize("case", BROKEN_OFF, ids=lambda case: case.name)
def test_requests_that_break_off_are_refused_or_dropped(check, case):
    check(case, then_shut=True)


def test_plain_http_to_the_tls_port_is_refused_in_json(survivor, front):
    assert [answer.code for answer in converse(front.tls_port, post())] == ["bad_request"]
