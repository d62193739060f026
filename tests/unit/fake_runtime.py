"""A runtime with methods that a test chooses."""

from eventlog.runtime import Runtime


class FakeRuntime(Runtime):
    """A cooperative runtime, like gevent's. A method that is not given is Runtime's."""

    is_cooperative = True

    def __init__(self, **methods):
        vars(self).update(methods)
