// The test build's two extra verbs; see ../core/fault.h.
#include "../core/fault.h"

#include "verbs.h"

namespace overlayfs {

Napi::Value plan_fault_verb(const Napi::CallbackInfo& info) {
  fault::plan(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::Number>().Int32Value(),
              info[2].As<Napi::Number>().Int32Value(), info[3].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value clear_faults_verb(const Napi::CallbackInfo& info) {
  auto calls = Napi::Object::New(info.Env());
  for (const auto& [call, count] : fault::clear()) calls.Set(call, count);
  return calls;
}

}  // namespace overlayfs
