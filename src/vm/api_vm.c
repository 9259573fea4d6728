/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_vm.c - the calls that Cloud Hypervisor has too: its OpenAPI file, cloud-hypervisor.yaml.  One machine a process,
 * and it exists as long as that: what ends the machine ends the VMM.
 */
#include <errno.h>
#include <microhttpd.h>
#include <unistd.h>

#include "lodge_config.h"
#include "config/json.h"
#include "display/vnc.h"
#include "vm/api_internal.h"

static void ping(struct api_call *c)
{
    api_json(c, json_pack("{s:s, s:s, s:i, s:[]}", "build_version", "lodge-" LODGE_VERSION, "version", LODGE_VERSION,
                          "pid", (int)getpid(), "features"));
}

/* VmInfo. `config` is what Cloud Hypervisor's VmConfig has a place for; `lodge` is all of it, as in vm.yaml. */
static void info(struct api_call *c)
{
    const struct vm_config *k = c->vm->config;

    api_json(c, json_pack("{s:o, s:o, s:s, s:I, s:s, s:s*}", "config", config_to_api(k), "lodge", config_to_json(k), "state",
                          vm_state(c->vm) == VM_RUNNING ? "Running" : "Paused", "memory_actual_size", (json_int_t)k->memory, "engine",
                          c->vm->engine->name, "vnc", c->vm->vnc ? vnc_address(c->vm->vnc) : NULL));
}

static void pause_(struct api_call *c)
{
    if (vm_pause(c->vm))
        api_fail(c, MHD_HTTP_METHOD_NOT_ALLOWED, vm_state(c->vm) == VM_PAUSED ? "the machine is paused already" : "the machine has ended");
    else
        api_done(c, MHD_HTTP_NO_CONTENT);
}

static void resume(struct api_call *c)
{
    if (vm_resume(c->vm))
        api_fail(c, MHD_HTTP_METHOD_NOT_ALLOWED,
                 vm_state(c->vm) == VM_WAITING ? "the machine waits for a disk, and goes on by itself" : "the machine is not paused");
    else
        api_done(c, MHD_HTTP_NO_CONTENT);
}

static void power_button(struct api_call *c)
{
    if (!machine_power_button(c->vm->machine))
        api_fail(c, MHD_HTTP_METHOD_NOT_ALLOWED,
                 "the guest does not listen to the power button (ACPI); vm.shutdown turns it off");
    else
        api_done(c, MHD_HTTP_NO_CONTENT);
}

/* 202: the guest masks it for the time being. */
static void nmi(struct api_call *c)
{
    api_done(c, machine_nmi(c->vm->machine) ? MHD_HTTP_NO_CONTENT : MHD_HTTP_ACCEPTED);
}

static void reboot(struct api_call *c)
{
    vm_ask(c->vm, MACHINE_RESET);
    api_done(c, MHD_HTTP_NO_CONTENT);
}

static void shut_down(struct api_call *c)
{
    vm_ask(c->vm, MACHINE_POWER_OFF);
    api_done(c, MHD_HTTP_NO_CONTENT);
}

const struct api_route api_vm_routes[] = {
    { "GET", "vmm.ping", false, ping },
    { "PUT", "vmm.shutdown", false, shut_down },
    { "GET", "vm.info", false, info },
    { "PUT", "vm.pause", false, pause_ },
    { "PUT", "vm.resume", false, resume },
    { "PUT", "vm.power-button", false, power_button },
    { "PUT", "vm.nmi", false, nmi },
    { "PUT", "vm.reboot", false, reboot },
    { "PUT", "vm.shutdown", false, shut_down },
    { NULL, NULL, false, NULL },
};
