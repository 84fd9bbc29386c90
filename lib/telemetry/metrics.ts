/**
 * The metrics of a role, as values that the role sets and as the text that Prometheus reads.
 *
 * ```
 * counters of the roles ──set──▶ series ──text()──▶ /metrics (host/telemetry_server.ts)
 *                        removeRun(run) ──▶ gone
 * ```
 * The roles count already; a metric takes over what they have counted, so nothing is counted twice and the
 * data path pays nothing. Only what no role keeps is counted here ({@link Counter.add}).
 */
import process from "node:process";
import * as prometheus from "prom-client";
import {
  AGENT_METRICS,
  COMMON_METRICS,
  COORDINATOR_METRICS,
  type LabelKinds,
  type LabelsOf,
  type MetricDefinition,
  type Role,
  RUN_PHASES,
  type RunPhase,
} from "./definitions.ts";

/** A metric with more series refuses new ones, and `clusterrr_metric_series_refused_total` counts. */
export const SERIES_MAX = 10_000;

/** The content type that {@link Metrics.text} goes out as. */
export const METRICS_CONTENT_TYPE = prometheus.Registry.PROMETHEUS_CONTENT_TYPE;

type Labels = Readonly<Record<string, string>>;

/** One metric. Labels are checked against its definition: what is not listed there throws. */
class Series<L extends LabelKinds> {
  readonly #series = new Map<string, Labels>();

  constructor(
    protected readonly definition: MetricDefinition,
    private readonly forget: (labels: Labels) => void,
    private readonly onRefused: () => void,
  ) {}

  /** Takes the series with these labels away. */
  remove(labels: LabelsOf<L>): void {
    this.removeWhere((of) =>
      Object.entries(labels as Labels).every(([name, value]) => of[name] === value)
    );
  }

  /** Takes every series away of which `chosen` is true. */
  removeWhere(chosen: (labels: Labels) => boolean): void {
    for (const [key, labels] of this.#series) {
      if (!chosen(labels)) continue;
      this.#series.delete(key);
      this.forget(labels);
    }
  }

  /** Whether the series may be written: it is there, or there is room for it. */
  protected admit(labels: LabelsOf<L>): boolean {
    const kinds = Object.entries(this.definition.labels);
    const values = kinds.map(([name, kind]) => {
      const value = (labels as Labels)[name];
      if (value === undefined || (kind !== "named" && !kind.includes(value))) {
        throw new Error(`${this.definition.name}: ${name}="${value}" is none of its labels`);
      }
      return value;
    });
    const key = JSON.stringify(values);
    if (this.#series.has(key)) return true;
    if (this.#series.size >= SERIES_MAX) {
      this.onRefused();
      return false;
    }
    this.#series.set(key, { ...labels as Labels });
    return true;
  }
}

/** Something that only rises while it exists; it begins anew with the run it belongs to. */
export class Counter<L extends LabelKinds> extends Series<L> {
  readonly #inner: prometheus.Counter;

  constructor(definition: MetricDefinition, registry: prometheus.Registry, onRefused: () => void) {
    const inner = new prometheus.Counter(configOf(definition, registry));
    super(definition, (labels) => inner.remove(labels), onRefused);
    this.#inner = inner;
    // A kind of event that has not happened yet is 0: the first one then shows as a rise.
    const [only, ...more] = Object.entries(definition.labels);
    if (only === undefined || only[1] === "named" || more.length > 0) return;
    for (const value of only[1]) this.add({ [only[0]]: value } as unknown as LabelsOf<L>, 0);
  }

  /** Takes over what a role has counted so far. */
  set(labels: LabelsOf<L>, value: number | bigint): void {
    if (!this.admit(labels)) return;
    this.#inner.remove(labels as Labels);
    this.#inner.inc(labels as Labels, Number(value));
  }

  /** Counts here. */
  add(labels: LabelsOf<L>, more = 1): void {
    if (this.admit(labels)) this.#inner.inc(labels as Labels, more);
  }
}

/** Something that rises and falls. */
export class Gauge<L extends LabelKinds> extends Series<L> {
  readonly #inner: prometheus.Gauge;

  constructor(definition: MetricDefinition, registry: prometheus.Registry, onRefused: () => void) {
    const inner = new prometheus.Gauge(configOf(definition, registry));
    super(definition, (labels) => inner.remove(labels), onRefused);
    this.#inner = inner;
  }

  set(labels: LabelsOf<L>, value: number | bigint): void {
    if (this.admit(labels)) this.#inner.set(labels as Labels, Number(value));
  }
}

/** How something is distributed. */
export class Histogram<L extends LabelKinds> extends Series<L> {
  readonly #inner: prometheus.Histogram;

  constructor(definition: MetricDefinition, registry: prometheus.Registry, onRefused: () => void) {
    const buckets = [...definition.buckets ?? []];
    const inner = new prometheus.Histogram({ ...configOf(definition, registry), buckets });
    super(definition, (labels) => inner.remove(labels), onRefused);
    this.#inner = inner;
  }

  observe(labels: LabelsOf<L>, value: number): void {
    if (this.admit(labels)) this.#inner.observe(labels as Labels, value);
  }
}

function configOf({ name, help, labels }: MetricDefinition, registry: prometheus.Registry) {
  return { name, help, labelNames: Object.keys(labels), registers: [registry] };
}

type Definitions = Readonly<Record<string, MetricDefinition>>;
type MetricOf<D> = D extends MetricDefinition<infer T, infer L>
  ? T extends "counter" ? Counter<L> : T extends "gauge" ? Gauge<L> : Histogram<L>
  : never;
type MetricsOf<D extends Definitions> = { readonly [K in keyof D]: MetricOf<D[K]> };

/** What a role's metrics can do besides being set. */
export interface Metrics {
  /** All of them in Prometheus' text format. */
  text(): Promise<string>;
  /** The run has ended and its last values have been read, or need not be: takes its series away. */
  removeRun(run: string): void;
  /** Likewise a host that has been removed. */
  removeHost(host: string): void;
  /** How many runs are in which phase now; a phase that is not named has none. */
  setRunPhases(phases: Iterable<RunPhase>): void;
}

export type CommonMetrics = MetricsOf<typeof COMMON_METRICS> & Metrics;
export type AgentMetrics = CommonMetrics & MetricsOf<typeof AGENT_METRICS>;
export type CoordinatorMetrics = CommonMetrics & MetricsOf<typeof COORDINATOR_METRICS>;

/** @param version clusterrr's */
export function createAgentMetrics(version: string): AgentMetrics {
  return create("agent", version, { ...COMMON_METRICS, ...AGENT_METRICS });
}

/** @param version clusterrr's */
export function createCoordinatorMetrics(version: string): CoordinatorMetrics {
  return create("coordinator", version, { ...COMMON_METRICS, ...COORDINATOR_METRICS });
}

function create<D extends typeof COMMON_METRICS & Definitions>(
  role: Role,
  version: string,
  definitions: D,
): MetricsOf<D> & CommonMetrics {
  const registry = new prometheus.Registry();
  const refuse = () => common.seriesRefused.add({});
  const byKey = Object.fromEntries(
    Object.entries(definitions).map(([key, each]) => [key, make(each, registry, refuse)]),
  );
  const all = Object.values(byKey);
  const common = byKey as unknown as MetricsOf<typeof COMMON_METRICS>;
  const removeWhere = (label: string, value: string) => {
    for (const metric of all) metric.removeWhere((labels) => labels[label] === value);
  };
  const setRunPhases = (phases: Iterable<RunPhase>) => {
    const counts = new Map(RUN_PHASES.map((phase) => [phase, 0]));
    for (const phase of phases) counts.set(phase, counts.get(phase)! + 1);
    for (const [phase, count] of counts) common.runs.set({ phase }, count);
  };
  common.buildInfo.set({ version, role }, 1);
  common.processStart.set({}, performance.timeOrigin / 1000);
  setRunPhases([]);
  const metrics: Metrics = {
    text() {
      measureProcess(common);
      return registry.metrics();
    },
    removeRun: (run) => removeWhere("run", run),
    removeHost: (host) => removeWhere("host", host),
    setRunPhases,
  };
  return Object.assign(byKey, metrics) as unknown as MetricsOf<D> & CommonMetrics;
}

function make(
  definition: MetricDefinition,
  registry: prometheus.Registry,
  onRefused: () => void,
): Counter<LabelKinds> | Gauge<LabelKinds> | Histogram<LabelKinds> {
  switch (definition.type) {
    case "counter":
      return new Counter(definition, registry, onRefused);
    case "gauge":
      return new Gauge(definition, registry, onRefused);
    case "histogram":
      return new Histogram(definition, registry, onRefused);
  }
}

function measureProcess(common: MetricsOf<typeof COMMON_METRICS>): void {
  const { user, system } = process.cpuUsage();
  common.processCpu.set({}, (user + system) / 1e6);
  common.processMemory.set({}, Deno.memoryUsage().rss);
}
