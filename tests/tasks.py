"""Backends of Django's tasks framework that have workers somewhere else."""

try:
    from django.tasks.backends.dummy import DummyBackend
except ModuleNotFoundError:
    from django_tasks.backends.dummy import DummyBackend


class RecordingBackend(DummyBackend):
    enqueued = []

    def enqueue(self, task, args, kwargs):
        self.enqueued.append(list(args))
        return super().enqueue(task, args, kwargs)


class DownBackend(DummyBackend):
    """One whose queue cannot be reached."""

    def enqueue(self, task, args, kwargs):
        raise ConnectionError("The queue is down.")
