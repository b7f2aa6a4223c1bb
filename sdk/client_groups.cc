// Client: consumer groups as they are administered.
#include <utility>

#include "sdk/client_impl.h"

namespace sluice {

Status Client::create_group(const GroupConfig& config) { return impl_->control().create_group(config); }
Status Client::alter_group(std::string_view name, const GroupChange& change) {
  return impl_->control().alter_group(name, change);
}
Status Client::delete_group(std::string_view name) { return impl_->control().delete_group(name); }
Status Client::pause_group(std::string_view name, bool pause) { return impl_->control().pause_group(name, pause); }

Result<std::vector<GroupInfo>> Client::groups() { return impl_->control().describe_groups({}); }

Result<GroupInfo> Client::group(std::string_view name) {
  if (name.empty()) return fail(ErrorCode::invalid, "describing a group: its name is empty");
  SLUICE_ASSIGN(std::vector<GroupInfo> found, impl_->control().describe_groups(name));
  if (found.size() == 1) return std::move(found.front());
  return fail(ErrorCode::internal, "describing group " + std::string(name) + ": the daemon answered with " +
                                       std::to_string(found.size()) + " groups");
}

Result<GroupReason> Client::explain_group(std::string_view name) { return impl_->control().explain_group(name); }
Result<std::vector<SeekMove>> Client::seek_group(std::string_view name, std::string_view topic, const From& to,
                                                 bool execute, bool force) {
  return impl_->control().seek_group(name, topic, to, execute, force);
}
Result<SafeHorizon> Client::safe_horizon(std::string_view group, std::string_view topic, PartitionNumber partition) {
  return impl_->control().safe_horizon(group, topic, partition);
}
Result<std::vector<DeadLetterCount>> Client::dead_letter_counts(std::string_view group) {
  return impl_->control().count_dead_letters(group);
}
Result<std::vector<DeadLetter>> Client::dead_letters(std::string_view group, std::uint64_t after_id,
                                                     std::uint32_t limit) {
  return impl_->control().list_dead_letters(group, after_id, limit);
}
Result<std::vector<RedriveOutcome>> Client::redrive(std::string_view group, const RedriveOptions& options) {
  return impl_->control().redrive(group, options);
}
Result<std::uint64_t> Client::purge_dead_letters(std::string_view group) {
  return impl_->control().purge_dead_letters(group);
}

}  // namespace sluice
