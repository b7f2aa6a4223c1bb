#include "shm/region/region.h"

#include <cstddef>
#include <cstring>

#include "shm/base/assert.h"
#include "shm/layout/member_region.h"
#include "shm/region/memfd.h"

namespace sluice::region {
namespace {

using layout::RegionHeader;
using layout::RegionKind;

// The plain fields behind the magic, as they stand in the header.
struct HeaderFields {
  std::uint32_t version;
  std::uint32_t topic_id;
  std::uint32_t partition;
  std::uint32_t handle;
  std::uint64_t incarnation;
  std::uint64_t size;
  std::uint64_t session_id;
};
constexpr std::size_t kFieldsOffset = offsetof(RegionHeader, version);
static_assert(offsetof(RegionHeader, session_id) - kFieldsOffset == offsetof(HeaderFields, session_id));
static_assert(offsetof(RegionHeader, incarnation) - kFieldsOffset == offsetof(HeaderFields, incarnation));

std::string_view kind_name(RegionKind kind) {
  switch (kind) {
    case RegionKind::control: return "control";
    case RegionKind::log: return "log";
    case RegionKind::bell: return "bell";
    case RegionKind::session: return "session";
    case RegionKind::kept_table: return "kept table";
    case RegionKind::member: return "member";
  }
  return "unnamed";
}

tl::unexpected<Error> wrong(const RegionExpectation& expectation, std::string_view field, std::uint64_t found,
                            std::uint64_t expected) {
  return fail(ErrorCode::corrupt, "opening " + region_name(expectation) + ": its " + std::string(field) + " is " +
                                      std::to_string(found) + " instead of " + std::to_string(expected));
}

std::uint64_t size_min(RegionKind kind) {
  switch (kind) {
    case RegionKind::control: return sizeof(layout::ControlRegion);
    case RegionKind::log: return layout::kLogHeaderSize;
    case RegionKind::bell: return sizeof(layout::BellRegion);
    case RegionKind::session: return sizeof(layout::SessionRegion);
    case RegionKind::kept_table: return sizeof(RegionHeader);
    case RegionKind::member: return sizeof(layout::MemberRegion);
  }
  return sizeof(RegionHeader);
}

}  // namespace

std::string region_name(const RegionExpectation& expectation) {
  std::string text = "the ";
  text += kind_name(expectation.kind);
  text += " region";
  if (expectation.session) text += " of session " + std::to_string(expectation.session->value);
  if (expectation.topic) text += " of topic " + std::to_string(expectation.topic->value);
  if (expectation.partition) text += ", partition " + std::to_string(*expectation.partition);
  return text;
}

void initialise_header(const Mapping& mapping, const RegionInfo& info) {
  SLUICE_ASSERT(mapping.size() >= sizeof(RegionHeader));
  SLUICE_ASSERT(info.size <= mapping.size());
  auto* header = mapping.at<RegionHeader>();
  header->version = layout::kRegionVersion;
  header->topic_id = info.topic.value;
  header->partition = info.partition;
  header->handle = info.handle;
  header->incarnation = info.incarnation.value;
  header->size = info.size;
  header->session_id = info.session.value;
  // release: pairs with the acquire in read_header; publishes the fields above and all that the maker wrote before.
  header->magic.store(layout::region_magic(info.kind), std::memory_order_release);
}

Result<RegionInfo> read_header(const Mapping& mapping, const RegionExpectation& expectation) {
  if (mapping.size() < size_min(expectation.kind)) {
    return wrong(expectation, "mapped size", mapping.size(), size_min(expectation.kind));
  }
  const auto* header = mapping.at<const RegionHeader>();
  // acquire: pairs with the release in initialise_header.
  const std::uint64_t magic = header->magic.load(std::memory_order_acquire);
  if (magic != layout::region_magic(expectation.kind)) {
    return wrong(expectation, "magic", magic, layout::region_magic(expectation.kind));
  }
  HeaderFields fields;  // one copy: peers may write to log, bell and session pages at any time
  std::memcpy(&fields, mapping.data() + kFieldsOffset, sizeof fields);
  if (fields.version != layout::kRegionVersion) {
    return fail(ErrorCode::version, "opening " + region_name(expectation) + ": its layout has version " +
                                        std::to_string(fields.version) + ", this build knows " +
                                        std::to_string(layout::kRegionVersion) +
                                        "; install the same version as the daemon's");
  }
  if (fields.incarnation != expectation.incarnation.value) {
    return wrong(expectation, "incarnation", fields.incarnation, expectation.incarnation.value);
  }
  if (fields.size > mapping.size() || fields.size < size_min(expectation.kind)) {
    return wrong(expectation, "size", fields.size, mapping.size());
  }
  if (expectation.topic && fields.topic_id != expectation.topic->value) {
    return wrong(expectation, "topic", fields.topic_id, expectation.topic->value);
  }
  if (expectation.partition && fields.partition != *expectation.partition) {
    return wrong(expectation, "partition", fields.partition, *expectation.partition);
  }
  if (expectation.session && fields.session_id != expectation.session->value) {
    return wrong(expectation, "session", fields.session_id, expectation.session->value);
  }
  return RegionInfo{
      expectation.kind, TopicId(fields.topic_id),    fields.partition, fields.handle, Incarnation(fields.incarnation),
      fields.size,      SessionId(fields.session_id)};
}

Result<Region> open_region(int fd, Access access, const RegionExpectation& expectation) {
  const std::string what = region_name(expectation);
  SLUICE_TRY(check_memfd(fd, 0, what));
  SLUICE_ASSIGN(Mapping mapping, Mapping::map(fd, access, what));
  SLUICE_ASSIGN(const RegionInfo info, read_header(mapping, expectation));
  return Region{std::move(mapping), info};
}

}  // namespace sluice::region
