// US_HOST_DEVICE marks functions that CUDA code shares with the host; nothing for a plain compiler.
#pragma once

#ifdef __CUDACC__
#define US_HOST_DEVICE __host__ __device__
#else
#define US_HOST_DEVICE
#endif
