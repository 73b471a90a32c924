"""A verifiers v1 environment in its own terms: five doors, a point at the end for each time the player said go."""

import random

import verifiers.v1 as vf

__all__ = ["DoorsEnv", "DoorsTaskset"]


class DoorsData(vf.TaskData):
    colour: str


class DoorsTask(vf.Task[DoorsData, vf.State, vf.TaskConfig]):
    @vf.stop
    async def gave_up(self, trace: vf.Trace) -> bool:
        return trace.last_reply == "give up"


class DoorsConfig(vf.TasksetConfig):
    doors: int = 3
    opens: bool = False
    """Does the player open the conversation, so that tasks have no prompt?"""
    fault: str = ""


class DoorsTaskset(vf.Taskset[DoorsTask, DoorsConfig]):
    def load(self):
        for colour in ("red", "green", "blue")[: self.config.doors]:
            prompt = None if self.config.opens else f"You see a {colour} door."
            yield DoorsTask(DoorsData(prompt=prompt, system_prompt="Be bold.", colour=colour), self.config.task)


class DoorsEnvConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()


class DoorsEnv(vf.Env[DoorsEnvConfig]):
    async def run(self, task, agents):
        fault = self.taskset.config.fault
        if fault == "raises":
            raise RuntimeError("the hinges are off")
        if fault == "nobody":
            return
        said = 0
        async with agents.player.interaction(task) as it:
            segment = await it.turn("Knock." if self.taskset.config.opens else None)
            for turn in range(5):
                if segment.terminated:
                    break
                if fault == "hangs":
                    import time

                    time.sleep(1.5)
                said += segment.last_reply == "go"
                if turn < 4:
                    segment = await it.turn(f"Another door, number {random.randrange(10**6)}.")
        it.trace.record_reward("doors", float("nan") if fault == "nan" else said)
        it.trace.record_metric("true", -said)
