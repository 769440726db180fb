#include "copy_up_batch.h"

#include "values.h"

namespace overlayfs {

Napi::Object copy_up_batch_to_js(Napi::Env env, const std::vector<CopyUpRow>& rows) {
  std::string paths;
  auto methods = Napi::Uint8Array::New(env, rows.size());
  auto bytes = Napi::BigUint64Array::New(env, rows.size());
  auto cloned = Napi::Uint8Array::New(env, rows.size());
  auto reasons = Napi::Array::New(env);
  for (uint32_t i = 0; i < rows.size(); ++i) {
    const CopyUpRow& row = rows[i];
    paths.append(row.path).push_back('\0');
    methods[i] = static_cast<uint8_t>(row.method);
    bytes[i] = row.bytes;
    cloned[i] = row.cloned ? 1 : 0;
    if (row.reason.empty()) continue;
    auto reason = Napi::Array::New(env, 2);
    reason.Set(0u, i);
    reason.Set(1u, bytes_to_js(env, row.reason));
    reasons.Set(reasons.Length(), reason);
  }
  auto js = Napi::Object::New(env);
  js.Set("paths", bytes_to_js(env, paths));
  js.Set("methods", methods);
  js.Set("bytes", bytes);
  js.Set("cloned", cloned);
  js.Set("reasons", reasons);
  return js;
}

}  // namespace overlayfs
