// sluice-ring-bench: how fast the ring is bare, beside what the machine gives at best.
//
// Each repetition of a setting measures the machine's floors (the raw round trip of a cache line, memcpy) in the same
// processes, right before and after, so that noise of a shared machine is seen beside the result. Columns:
//   Mmsg/s             million messages a second
//   p50_ns, p99_ns     round trips
//   floor_ns           raw round trip of one cache line between the two cores, p50
//   copy_GB/s          memcpy
//   ratio              streams: messages per raw round trip; round trips: p50 / floor
// Medians are the rows `_median`; `_best` is the least disturbed repetition. Google Benchmark's flags choose settings
// (--benchmark_filter), repetitions and JSON (--benchmark_out=FILE --benchmark_out_format=json).
// SLUICE_BENCH_SEGMENT_SIZE and SLUICE_BENCH_SLOTS change the ring.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "perf/ring_world.h"
#include "shm/layout/regions.h"

namespace sluice::perf {
namespace {

constexpr std::uint32_t kBare = layout::kTopicFlagPlainCommit;
constexpr std::uint32_t kChecked = layout::kTopicFlagPlainCommit | layout::kTopicFlagChecksums;

std::vector<Setting> settings() {
  return {
      {"stream/bare/16", Shape::stream, 16, kBare, false, 6'000'000},
      {"stream/bare/64", Shape::stream, 64, kBare, false, 5'000'000},
      {"stream/bare/256", Shape::stream, 256, kBare, false, 2'000'000},
      {"stream/bare/1024", Shape::stream, 1024, kBare, false, 800'000},
      {"stream/bare/16384", Shape::stream, 16384, kBare, false, 60'000},
      {"stream/time_checksum_wake/64", Shape::stream, 64, kChecked, true, 3'000'000},
      {"stream/time_checksum_wake_cas/64", Shape::stream, 64, layout::kTopicFlagChecksums, true, 2'000'000},
      {"stream/bare_cas/64", Shape::stream, 64, 0, false, 2'000'000},
      {"round_trip/bare/16", Shape::round_trip, 16, kBare, false, 100'000},
      {"round_trip/bare/64", Shape::round_trip, 64, kBare, false, 100'000},
      {"two_producers/bare/64", Shape::two_producers, 64, kBare, false, 4'000'000},
  };
}

void run(benchmark::State& state, const Setting& setting) {
  for (auto _ : state) {
    const Outcome outcome = measure(setting);
    if (!outcome.error.empty()) {
      state.SkipWithError(outcome.error.c_str());
      return;
    }
    const Measured& m = outcome.measured;
    const bool trips = setting.shape == Shape::round_trip;
    state.SetIterationTime(trips ? m.trip.p50_ns * 1e-9 : 1 / m.messages_per_s);
    if (trips) {
      state.counters["p50_ns"] = m.trip.p50_ns;
      state.counters["p99_ns"] = m.trip.p99_ns;
      state.counters["ratio"] = m.trip.p50_ns / m.floor.p50_ns;
    } else {
      state.counters["Mmsg/s"] = m.messages_per_s * 1e-6;
      state.counters["ratio"] = m.messages_per_s * m.floor.p50_ns * 1e-9;
      state.counters["full"] = static_cast<double>(m.no_room);
    }
    state.counters["floor_ns"] = m.floor.p50_ns;
    state.counters["copy_GB/s"] = m.copy_bytes_per_s * 1e-9;
  }
}

double largest(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }
double smallest(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

void register_all() {
  for (const Setting& setting : settings()) {
    auto* benchmark =
        benchmark::RegisterBenchmark(setting.name.c_str(), [setting](benchmark::State& s) { run(s, setting); });
    benchmark->UseManualTime()->Iterations(1)->Repetitions(7)->ReportAggregatesOnly(true)->Unit(benchmark::kNanosecond);
    // Of rates the largest, of times the smallest.
    benchmark->ComputeStatistics("best", setting.shape == Shape::round_trip ? smallest : largest);
  }
}

}  // namespace
}  // namespace sluice::perf

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  sluice::perf::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
