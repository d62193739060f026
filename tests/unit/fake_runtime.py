"""A runtime whose methods a test chooses."""

from eventlog.runtime import Runtime


class FakeRuntime(Runtime):
    """Cooperative, as gevent's is; a method that is not given does what a thread's does."""

    is_cooperative = True

    def __init__(self, **methods):
        vars(self).update(methods)
