// Writes what torch.save writes for {mask_token_id: int, embedding: BF16 tensor}, byte by byte and
// without any code of src/model. tests/data/mask_embedding.pt is the same form, made by Python's
// own pickle module.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ultraspeed::test {

using ArchiveEntries = std::vector<std::pair<std::string, std::string>>;  // name, contents

// A zip archive of stored entries whose local headers leave the sizes out.
std::string zip_archive(const ArchiveEntries& entries);

// The pickle of the dict; the tensor is `shape` of the storage "0".
std::string mask_pickle(uint32_t mask_token_id, const std::vector<uint32_t>& shape);

// The whole file, of BF16 codes.
std::string mask_embedding_file(uint32_t mask_token_id, const std::vector<uint16_t>& codes);

}  // namespace ultraspeed::test
