/* Opens a model and prints its plan's first line: linked, or with -DLOAD through polyscore_dl.h. */
#include <stdio.h>
#include <string.h>

#ifdef LOAD
#define POLYSCORE_DL_IMPLEMENTATION
#include "polyscore_dl.h"
#else
#include "polyscore.h"
#endif

int main(int argc, char **argv) {
    static char plan[1 << 16];
    polyscore_model *model = NULL;
    polyscore_error error;
    size_t length = 0;
#ifdef LOAD
    polyscore_api api;
    char message[256];
    if (argc != 3) return 2;
    if (polyscore_dl_open("no-such-library.so", &api, message, sizeof message) == 0 || message[0] == 0) return 3;
    if (polyscore_dl_open("libm.so.6", &api, message, sizeof message) == 0) return 3;
    if (strstr(message, "has no polyscore_abi_version") == NULL) return 3;
    if (polyscore_dl_open(argv[2], &api, message, sizeof message) != 0) {
        printf("%s\n", message);
        return 1;
    }
#define CALL(name) api.name
#else
    if (argc < 2) return 2;
#define CALL(name) polyscore_##name
#endif
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    if (CALL(model_open)(argv[1], NULL, &model, &error) != POLYSCORE_OK) {
        printf("%s: %s\n", error.subject, error.message);
        return 1;
    }
    if (CALL(model_plan)(model, plan, sizeof plan, &length, NULL) != POLYSCORE_OK) return 1;
    printf("%.*s\n", (int)strcspn(plan, "\n"), plan);
    return CALL(model_close)(model) != POLYSCORE_OK;
}
