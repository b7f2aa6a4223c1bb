#include "sluice/client.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "sdk/client_impl.h"
#include "sdk/consumer_core.h"
#include "sdk/producer_core.h"
#include "sdk/reader_core.h"

namespace sluice {

std::string default_socket() {
  if (const char* path = std::getenv("SLUICE_SOCKET"); path != nullptr && *path != '\0') return path;
  if (::geteuid() == 0) return "/run/sluice/sluice.sock";
  if (const char* directory = std::getenv("XDG_RUNTIME_DIR"); directory != nullptr && *directory != '\0')
    return std::string(directory) + "/sluice/sluice.sock";
  return "/run/user/" + std::to_string(::geteuid()) + "/sluice/sluice.sock";
}

Result<Client> Client::connect(ConnectOptions options) {
  if (options.socket.empty()) options.socket = default_socket();
  if (options.client_name.empty()) options.client_name = program_invocation_short_name;
  auto impl = std::make_shared<Impl>();
  SLUICE_ASSIGN(impl->link, internal::ControlLink::connect(std::move(options)));
  return Client(std::move(impl));
}

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Producer> Client::producer(std::string_view topic, ProducerOptions options) {
  auto impl = std::make_unique<Producer::Impl>();
  SLUICE_ASSIGN(impl->core, internal::ProducerCore::open(impl_->link, std::string(topic), std::move(options)));
  return Producer(std::move(impl));
}

Result<Reader> Client::reader(std::vector<std::string> topics, ReaderOptions options) {
  auto impl = std::make_unique<Reader::Impl>();
  SLUICE_ASSIGN(impl->core, internal::ReaderCore::open(impl_->link, std::move(topics), std::move(options)));
  return Reader(std::move(impl));
}

Result<Consumer> Client::consumer(std::vector<std::string> topics, ConsumerOptions options) {
  auto impl = std::make_unique<Consumer::Impl>();
  SLUICE_ASSIGN(impl->core, internal::ConsumerCore::open(impl_->link, std::move(topics), std::move(options)));
  return Consumer(std::move(impl));
}

Status Client::create_topic(const TopicConfig& config) { return impl_->control().create_topic(config); }
Status Client::alter_topic(std::string_view name, const TopicChange& change) {
  return impl_->control().alter_topic(name, change);
}
Status Client::delete_topic(std::string_view name) { return impl_->control().delete_topic(name); }
Status Client::recover_topic(std::string_view name, std::optional<PartitionNumber> partition) {
  return impl_->control().recover_topic(name, partition);
}
Result<ScrubReport> Client::start_scrub(std::string_view name, std::optional<PartitionNumber> partition) {
  return impl_->control().scrub_topic(name, partition, true);
}
Result<ScrubReport> Client::scrub(std::string_view name) { return impl_->control().scrub_topic(name, {}, false); }
Result<std::vector<TopicInfo>> Client::topics() { return impl_->control().list_topics(); }
Result<TopicInfo> Client::topic(std::string_view name) { return impl_->control().describe_topic(name); }
Result<AuditReport> Client::audit(std::string_view topic) { return impl_->control().audit(topic); }
Result<BusStatus> Client::status() { return impl_->control().status(); }
Result<std::vector<DoctorCheck>> Client::doctor(bool quick) { return impl_->control().doctor(quick); }
Result<std::vector<SessionInfo>> Client::sessions() { return impl_->control().list_sessions(); }
Status Client::kill_session(std::uint64_t id) { return impl_->control().kill_session(id); }
Result<std::string> Client::daemon_config() { return impl_->control().config(); }

ConnectionState Client::state() const { return impl_->control().state(); }
Incarnation Client::incarnation() const { return impl_->control().incarnation(); }
const std::string& Client::socket() const { return impl_->control().socket(); }

}  // namespace sluice
