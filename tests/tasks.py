"""Backends of Django's tasks framework that have workers somewhere else."""

try:
    from django.tasks.backends.dummy import DummyBackend
except ModuleNotFoundError:
    from django_tasks.backends.dummy import DummyBackend

#: What we say of DownBackend.
DOWN = "The backend of TASKS raised DownError and did not take the work. Start it, then try again."


class RecordingBackend(DummyBackend):
    enqueued = []

    def enqueue(self, task, args, kwargs):
        self.enqueued.append(list(args))
        return super().enqueue(task, args, kwargs)


class DownError(Exception):
    """What a queue's own client raises, which is no class that anybody else knows."""


class DownBackend(DummyBackend):
    """The server of the queue is down."""

    def enqueue(self, task, args, kwargs):
        raise DownError("no answer from redis://user:secret@queue:6379")
