#include "program/verify.h"

#include "program/verify_internal.h"

namespace ultraspeed::program {

Result<VerifyReport> verify(const Program& program) {
  US_TRY(internal::verify_structure(program));
  return internal::verify_order(program);
}

}  // namespace ultraspeed::program
