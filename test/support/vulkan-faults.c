/*
 * A Vulkan driver for tests. It stands in front of another and passes everything on, but for a few calls that a file
 * names for as long as it is there: "fail vkQueueSubmit" fails them, as a lost GPU does; "hold vkQueueSubmit" keeps
 * them until the file says something else, as a slow one does.
 *
 *   FAULTS_DRIVER  library of the driver behind it
 *   FAULTS_FILE    the file
 *
 * The loader asks a driver for its functions by name, those of a device in another way (Vulkan-Loader,
 * docs/LoaderDriverInterface.md). The types are declared here as far as they matter, so that no headers are needed.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int32_t VkResult;
typedef void (*Function)(void);
typedef Function (*GetProcAddr)(void *owner, const char *name);

enum { initializationFailed = -3, deviceLost = -4 };

static int isTold(const char *what, const char *name) {
  char line[64] = "", told[64];
  FILE *file = fopen(getenv("FAULTS_FILE"), "r");
  if (!file) return 0;
  if (!fgets(line, sizeof line, file)) line[0] = 0;
  fclose(file);
  snprintf(told, sizeof told, "%s %s", what, name);
  return strcmp(line, told) == 0;
}

static int fails(const char *name) {
  while (isTold("hold", name)) usleep(1000);
  return isTold("fail", name);
}

#define FAULTY(name, error, parameters, arguments)           \
  static VkResult(*real_##name) parameters;                  \
  static VkResult faulty_##name parameters {                 \
    return fails(#name) ? error : real_##name arguments;     \
  }

FAULTY(vkCreateInstance, initializationFailed,
       (const void *info, const void *allocator, void **instance), (info, allocator, instance))
FAULTY(vkQueueSubmit, deviceLost,
       (void *queue, uint32_t count, const void *submits, uint64_t fence), (queue, count, submits, fence))
FAULTY(vkWaitForFences, deviceLost,
       (void *device, uint32_t count, const uint64_t *fences, uint32_t all, uint64_t timeout),
       (device, count, fences, all, timeout))

static GetProcAddr realGetDeviceProcAddr;
static Function faultyGetDeviceProcAddr(void *device, const char *name);

/* Keeps the real function and gives the faulty one, where there is one. */
static Function wrapped(const char *name, Function real) {
#define WRAP(each)                                   \
  if (real && strcmp(name, #each) == 0) {            \
    real_##each = (void *)real;                      \
    return (Function)faulty_##each;                  \
  }
  WRAP(vkCreateInstance)
  WRAP(vkQueueSubmit)
  WRAP(vkWaitForFences)
  if (real && strcmp(name, "vkGetDeviceProcAddr") == 0) {
    realGetDeviceProcAddr = (GetProcAddr)real;
    return (Function)faultyGetDeviceProcAddr;
  }
  return real;
}

static Function faultyGetDeviceProcAddr(void *device, const char *name) {
  return wrapped(name, realGetDeviceProcAddr(device, name));
}

static void *inDriver(const char *name) {
  static void *driver;
  if (!driver) driver = dlopen(getenv("FAULTS_DRIVER"), RTLD_NOW);
  return driver ? dlsym(driver, name) : NULL;
}

VkResult vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  VkResult (*real)(uint32_t *) = inDriver("vk_icdNegotiateLoaderICDInterfaceVersion");
  return real ? real(version) : initializationFailed;
}

Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  GetProcAddr real = (GetProcAddr)inDriver("vk_icdGetInstanceProcAddr");
  return real ? wrapped(name, real(instance, name)) : NULL;
}
