"""The part of KubeRay's `ray.io/v1` definitions that our files use: names, types, what is required. Unknown keys fail.

After the public reference of KubeRay 1.7 (RayCluster, RayJob); pods after Kubernetes' core/v1.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Quantity = str | int
Named = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)


class Metadata(Strict):
    name: str = Named
    labels: dict[str, str] = {}


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity] = {}


class Port(Strict):
    name: str = Field(pattern=r"^[a-z0-9-]{1,15}$")
    containerPort: int = Field(gt=0, lt=65536)


class Mount(Strict):
    name: str
    mountPath: str = Field(pattern="^/")
    readOnly: bool = False


class Variable(Strict):
    name: str
    value: str | None = None
    valueFrom: dict[str, Any] | None = None


class Container(Strict):
    name: str = Named
    image: str
    resources: Resources
    ports: list[Port] = []
    volumeMounts: list[Mount] = []
    env: list[Variable] = []
    command: list[str] = []
    args: list[str] = []


class Claim(Strict):
    claimName: str


class EmptyDir(Strict):
    medium: Literal["", "Memory"] = ""
    sizeLimit: Quantity | None = None


class Volume(Strict):
    name: str = Named
    persistentVolumeClaim: Claim | None = None
    emptyDir: EmptyDir | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Volume:
        assert (self.persistentVolumeClaim is None) != (self.emptyDir is None), "a volume has one source"
        return self


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str | None = None


class PodSecurity(Strict):
    runAsUser: int
    fsGroup: int


class Pod(Strict):
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume] = []
    tolerations: list[Toleration] = []
    securityContext: PodSecurity | None = None

    @model_validator(mode="after")
    def _mounts(self) -> Pod:
        mounted = {mount.name for container in self.containers for mount in container.volumeMounts}
        assert mounted == {volume.name for volume in self.volumes}, "volumes and mounts differ"
        return self


class PodTemplate(Strict):
    spec: Pod


class HeadGroup(Strict):
    template: PodTemplate
    rayStartParams: dict[str, str] = {}  # numbers are refused: they become command-line arguments


class WorkerGroup(Strict):
    groupName: str = Named
    replicas: int = Field(0, ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=0)
    rayStartParams: dict[str, str] = {}
    template: PodTemplate

    @model_validator(mode="after")
    def _bounds(self) -> WorkerGroup:
        assert self.minReplicas <= self.replicas <= self.maxReplicas, "replicas lie between the bounds"
        return self


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] = "Default"
    resources: Resources


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]
    secretName: str | None = None


class ClusterSpec(Strict):
    rayVersion: str
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    authOptions: AuthOptions | None = None


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class JobSpec(Strict):
    entrypoint: str
    rayClusterSpec: ClusterSpec
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = "K8sJobMode"
    backoffLimit: int = Field(0, ge=0)
    shutdownAfterJobFinishes: bool = False
    ttlSecondsAfterFinished: int = Field(0, ge=0)
    runtimeEnvYAML: str | None = None


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


class ClaimSpec(Strict):
    accessModes: list[Literal["ReadWriteMany"]] = Field(min_length=1)
    storageClassName: str
    resources: Resources


class StorageClaim(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec
