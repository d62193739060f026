"""A runtime with methods that a test chooses."""

from eventlog.runtime import ThreadRuntime


class FakeRuntime(ThreadRuntime):
    """A cooperative runtime, like gevent's. A method that is not given is ThreadRuntime's."""

    is_cooperative = True

    def __init__(self, **methods):
        vars(self).update(methods)
