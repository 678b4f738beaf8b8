// The kinds of Kubernetes' own that deploy/fleet/kubernetes has, as its OpenAPI declares them, under
// names that no type of theirs has.
import type * as apps from 'kubernetes-types/apps/v1';
import type * as core from 'kubernetes-types/core/v1';
import type * as meta from 'kubernetes-types/meta/v1';
import type * as networking from 'kubernetes-types/networking/v1';
import type * as policy from 'kubernetes-types/policy/v1';
import type * as rbac from 'kubernetes-types/rbac/v1';

export type MetadataManifest = meta.ObjectMeta;
export type DeploymentManifest = apps.Deployment;
export type ConfigMapManifest = core.ConfigMap;
export type ServiceManifest = core.Service;
export type ServiceAccountManifest = core.ServiceAccount;
export type NetworkPolicyManifest = networking.NetworkPolicy;
export type PodDisruptionBudgetManifest = policy.PodDisruptionBudget;
export type RoleManifest = rbac.Role;
export type RoleBindingManifest = rbac.RoleBinding;
