"""A plain verifiers v1 taskset: a question, a reply, a reward and a metric of the task's own. No environment."""

import verifiers.v1 as vf

__all__ = ["CapitalsTaskset"]


class CapitalsData(vf.TaskData):
    answer: str


class CapitalsConfig(vf.TasksetConfig):
    kind: str = "plain"


class CapitalsTask(vf.Task[CapitalsData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def right(self, task, trace) -> float:
        return float(task.answer in trace.last_reply)

    @vf.metric
    async def words(self, trace) -> float:
        return len(trace.last_reply.split())


class RuntimeTask(CapitalsTask):
    @vf.reward
    async def built(self, trace, runtime) -> float:
        return 1.0


class InterceptTask(CapitalsTask):
    @vf.intercept
    async def rewrite(self, request: vf.Request) -> None:
        return None


TASKS = {"plain": CapitalsTask, "runtime": RuntimeTask, "intercept": InterceptTask}


class CapitalsTaskset(vf.Taskset[CapitalsTask, CapitalsConfig]):
    def load(self):
        for land, town in (("Egypt", "Cairo"), ("Chad", "N'Djamena")):
            data = CapitalsData(prompt=f"The capital of {land}?", answer=town)
            yield TASKS[self.config.kind](data, self.config.task)
