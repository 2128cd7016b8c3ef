/** Pods as rkt's JSON has them (its package `lib`). */
import type { AppDetails, PodDetails } from '../pod/index.ts';

const NS_PER_SECOND = 1_000_000_000n;

/** Absent fields are left out, as Go's `omitempty` does. Times of the pod are seconds, those of apps nanoseconds. */
export function podJson(pod: PodDetails): Record<string, unknown> {
  return withoutEmpty({
    name: pod.uuid,
    state: pod.state,
    networks: pod.networks,
    app_names: pod.apps.map(({ name }) => name),
    apps: pod.apps.map(appJson),
    created_at: seconds(pod.createdNs),
    started_at: seconds(pod.startedNs),
    user_annotations: pod.manifest?.userAnnotations,
    user_labels: pod.manifest?.userLabels,
  });
}

export function appJson(app: AppDetails): Record<string, unknown> {
  return withoutEmpty({
    name: app.name,
    state: app.state,
    created_at: app.createdNs,
    started_at: app.startedNs,
    finished_at: app.finishedNs,
    exit_code: app.exitCode,
    memory_kills: app.memoryKills,
    restart_count: app.restarts,
    image_id: app.imageID,
    mounts: app.mounts.map(({ hostPath, containerPath, readOnly }) => ({ host_path: hostPath, container_path: containerPath, read_only: readOnly })),
    user_annotations: app.userAnnotations,
    user_labels: app.userLabels,
  });
}

function seconds(timeNs: bigint | undefined): bigint | undefined {
  return timeNs === undefined ? undefined : timeNs / NS_PER_SECOND;
}

function withoutEmpty(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)));
}
